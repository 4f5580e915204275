"""Distribution: tf.distribute strategies, clusters of processes and their messages."""
