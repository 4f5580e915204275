"""Training on several devices and several machines; the only user of `tf.distribute`."""
