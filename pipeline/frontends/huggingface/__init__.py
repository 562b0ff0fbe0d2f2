"""Hugging Face comes in: folders that save_pretrained wrote, and live models."""
