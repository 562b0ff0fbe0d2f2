"""MXNet comes in: ``-symbol.json`` and ``.params`` of all versions, read without MXNet."""
