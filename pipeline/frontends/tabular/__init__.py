"""What scikit-learn, XGBoost, LightGBM and CatBoost share: forests, tables of rows, matching."""
