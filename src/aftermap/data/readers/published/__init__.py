"""Published datasets of disasters and buildings: each a layout of files, a legend and a licence."""
