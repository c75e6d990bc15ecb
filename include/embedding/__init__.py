"""Records as vectors, for batches that are diverse and for *find similar* in Argilla.

Other packages meet this one in the lake: vectors are rows of ``embeddings``, and ``embedders/<project>.json``
(``pointer_path``) names the embedder whose vectors are the present ones.
"""
