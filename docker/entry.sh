#!/bin/sh
# What the container does: four PNGs are a pair of images and two masks to write, as in the xView2 competition;
# anything else is a command of aftermap.
set -eu
if [ "$#" -eq 4 ]; then
    case "$1 $2 $3 $4" in
        *.png\ *.png\ *.png\ *.png) exec aftermap predict-pair "$@" ;;
    esac
fi
exec aftermap "$@"
