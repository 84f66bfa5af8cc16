"""What was found, for people: figures by matplotlib, a page by Jinja; on the driver alone."""
