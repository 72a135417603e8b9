"""Names and colours of the classes of published datasets about disasters and buildings, in the order of their numbers."""

RESCUENET = {
    "background": (0, 0, 0),
    "water": (61, 230, 250),
    "building_no_damage": (180, 120, 120),
    "building_minor_damage": (235, 255, 7),
    "building_major_damage": (255, 184, 6),
    "building_total_destruction": (255, 0, 0),
    "vehicle": (255, 0, 245),
    "road_clear": (140, 140, 140),
    "road_blocked": (160, 150, 20),
    "tree": (4, 250, 7),
    "pool": (255, 235, 0),
}

FLOODNET = {
    "background": (0, 0, 0),
    "building_flooded": (255, 0, 0),
    "building_non_flooded": (180, 120, 120),
    "road_flooded": (160, 150, 20),
    "road_non_flooded": (140, 140, 140),
    "water": (61, 230, 250),
    "tree": (0, 82, 255),
    "vehicle": (255, 0, 245),
    "pool": (255, 235, 0),
    "grass": (4, 250, 7),
}

FLAIR = {
    "building": (219, 14, 154),
    "pervious_surface": (147, 142, 123),
    "impervious_surface": (248, 12, 0),
    "bare_soil": (169, 113, 1),
    "water": (21, 83, 174),
    "coniferous": (25, 74, 38),
    "deciduous": (70, 228, 131),
    "brushwood": (243, 166, 13),
    "vineyard": (102, 0, 130),
    "herbaceous_vegetation": (85, 255, 0),
    "agricultural_land": (255, 243, 13),
    "plowed_land": (228, 223, 124),
    "swimming_pool": (61, 230, 235),
    "snow": (255, 255, 255),
    "clear_cut": (138, 179, 160),
    "mixed": (107, 113, 79),
    "ligneous": (197, 220, 66),
    "greenhouse": (153, 153, 255),
    "other": (0, 0, 0),
}

BRIGHT = {
    "background": (0, 0, 0),
    "intact": (63, 174, 90),
    "damaged": (235, 127, 39),
    "destroyed": (200, 32, 60),
}

CHANGE = {"unchanged": (0, 0, 0), "changed": (255, 255, 255)}

CHANGE_KINDS = {"unchanged": (0, 0, 0), "built": (63, 174, 90), "torn_down": (200, 32, 60)}

FOTBCD = {
    "background": (0, 0, 0),
    "building_unchanged": (140, 140, 140),
    "building_torn_down": (200, 32, 60),
    "building_new": (63, 174, 90),
}

SPACENET8 = {
    "background": (0, 0, 0),
    "building_non_flooded": (63, 174, 90),
    "building_flooded": (200, 32, 60),
    "road_non_flooded": (140, 140, 140),
    "road_flooded": (244, 208, 63),
}
