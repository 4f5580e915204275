"""Advice before and after training: the doctor, the learning rate finder, model ranking."""
