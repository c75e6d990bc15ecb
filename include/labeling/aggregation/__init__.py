"""What many answers to one question come to, by kind of question. Pure numpy; nothing here reads or writes tables.

``votes`` holds answers as arrays. Labels: ``dawid_skene`` (three models of annotators), ``choice`` (which of them the
data supports), ``model_aware`` (with a classifier's opinion; training labels only). Other kinds: ``multi_labels``,
``ratings``, ``rankings``, ``spans``, ``texts``.
"""
