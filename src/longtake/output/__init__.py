"""The output file: joins the source's own frames and sound with the generated ones and encodes them."""
