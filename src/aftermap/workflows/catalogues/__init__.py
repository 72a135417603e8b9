"""Images of catalogues (STAC): which there are over an area, which two dates go best together, and what is known of them.

stac        walks static catalogues and asks APIs, within the reach and the budget of `aftermap.remote`
picture     one image of a catalogue: what its item says
pairing     pairs of acquisitions, ranked, with each reason as a number
pairs_file  pairs as a STAC item collection, as a table for `aftermap map-many`, and back
find        `aftermap find`: all of it
"""
