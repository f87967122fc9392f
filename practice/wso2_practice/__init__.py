"""Practice packs: a G-Reg 5.1.0 and an AS 5.3.0 to rehearse with, built from this folder by `build`."""
