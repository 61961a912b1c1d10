"""The models: their facts, the download and check of their files, and their loading into memory."""
