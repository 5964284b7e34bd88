"""RabbitMQ: pika for publishing and consuming, kombu for declaring."""
