"""A finished map as a report of two pages: PDF, HTML and DOCX, in several languages."""
