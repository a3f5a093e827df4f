"""Counterfactual radiographs: phantom lesions drawn into real normal images."""
