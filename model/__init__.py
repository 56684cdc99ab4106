"""How pairs are learnt: the network, its trainer and its scores, on Keras 3 alone.

``KERAS_BACKEND`` chooses tensorflow (the default), jax or torch.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes about the processor
