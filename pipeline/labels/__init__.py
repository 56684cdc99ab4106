"""Raw label values -> class ids: raters, tables, plausibility; only this room knows raw values."""
