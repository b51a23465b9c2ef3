"""Work that processes do in folders of their own, on this machine or on a Ray cluster."""
