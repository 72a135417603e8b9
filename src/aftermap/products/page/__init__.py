"""The offline map: one HTML file that opens in any browser without a network."""
