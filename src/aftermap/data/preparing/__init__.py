"""Preparation: what readers found is cut, drawn and written as one prepared dataset."""
