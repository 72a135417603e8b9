"""Classes of the photographs that class-incremental methods are compared on: Pascal VOC, ADE20K and Cityscapes."""

_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow dining_table dog horse motorbike person "
    "potted_plant sheep sofa train tv_monitor"
)
_ADE = (
    "void wall building sky floor tree ceiling road bed windowpane grass cabinet sidewalk person earth door table "
    "mountain plant curtain chair car water painting sofa shelf house sea mirror rug field armchair seat fence desk "
    "rock wardrobe lamp bathtub railing cushion base box column signboard chest_of_drawers counter sand sink "
    "skyscraper fireplace refrigerator grandstand path stairs runway case pool_table pillow screen_door stairway "
    "river bridge bookcase blind coffee_table toilet flower book hill bench countertop stove palm kitchen_island "
    "computer swivel_chair boat bar arcade_machine hovel bus towel light truck tower chandelier awning streetlight "
    "booth television_receiver airplane dirt_track apparel pole land bannister escalator ottoman bottle buffet poster "
    "stage van ship fountain conveyer_belt canopy washer plaything swimming_pool stool barrel basket waterfall tent "
    "bag minibike cradle oven ball food step tank trade_name microwave pot animal bicycle lake dishwasher screen "
    "blanket sculpture hood sconce vase traffic_light tray ashcan fan pier crt_screen plate monitor bulletin_board "
    "shower radiator glass clock flag"
)
VOC, ADE = tuple(_VOC.split()), tuple(_ADE.split())
CITYSCAPES = {
    "road": (7, 128, 64, 128), "sidewalk": (8, 244, 35, 232), "building": (11, 70, 70, 70), "wall": (12, 102, 102, 156),
    "fence": (13, 190, 153, 153), "pole": (17, 153, 153, 153), "traffic_light": (19, 250, 170, 30),
    "traffic_sign": (20, 220, 220, 0), "vegetation": (21, 107, 142, 35), "terrain": (22, 152, 251, 152),
    "sky": (23, 70, 130, 180), "person": (24, 220, 20, 60), "rider": (25, 255, 0, 0), "car": (26, 0, 0, 142),
    "truck": (27, 0, 0, 70), "bus": (28, 0, 60, 100), "train": (31, 0, 80, 100), "motorcycle": (32, 0, 0, 230),
    "bicycle": (33, 119, 11, 32),
}  # fmt: skip
"""Number in label files, then red, green and blue, of the classes that are scored."""


def index_colour(index: int) -> tuple[int, int, int]:
    """The colour that Pascal VOC gives to a class: its bits, spread over red, green and blue from the highest down."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= ((index >> (3 * place + channel)) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]
