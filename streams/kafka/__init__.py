"""The watch on Kafka: the Faust app, workers, partitions, checkpoints and the outbox."""
