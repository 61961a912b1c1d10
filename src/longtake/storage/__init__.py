"""Files of the server: uploads and results, where their bytes are kept and for how long."""
