"""What pathologists measure: size, form, intensity and texture of nucleus and cytoplasm."""
