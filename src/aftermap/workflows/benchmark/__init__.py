"""Models and recipes compared by one protocol: folds that do not leak, figures with intervals, one page."""
