"""Defenses are lists of member networks and their probabilities; views are what an adversary holds of them."""
