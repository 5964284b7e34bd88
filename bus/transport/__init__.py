"""The two kinds of broker, RabbitMQ and Redis, behind one interface.

``interfaces`` says what a broker connection can do, ``rabbitmq`` and ``redis`` implement it, and
``factory`` chooses by the URL. kombu and pika are imported only below here.
"""
