"""The model `field_one_date` of aftermap, in the folder `model` of this package; see LICENSE (CC BY-NC-SA 4.0)."""
