"""`camelid quickstart`: raw text to a model you can talk to, with one dial.

Every step is an ordinary stage with a recipe of its own, in a folder of its own; what is finished is kept, so the
same command goes on after Ctrl-C.

    OUT/data        the embedded world as files, unless text and chats are given
    OUT/tokenizer   OUT/pretrain   OUT/tune   OUT/model-4bit
    OUT/results     one JSON file for each model; the lines of every question
    OUT/report.html
"""
