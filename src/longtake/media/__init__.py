"""Video files: in (fetch, source) as frames and sound, out (encode) as one file, and the joint between them."""
