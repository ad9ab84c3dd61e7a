"""Networks and losses put together: what is trained, and how it samples."""
