"""Writes what Python's transformers makes of the test's texts.

    python expected_embeddings.py MODEL_DIR > minilm_embeddings.json
"""

import json
import sys

import torch
import transformers

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A fast auburn fox leapt across a sleepy hound!",
    "Checkpoints are loaded eagerly, with predictable memory: naïve façades, 東京, 🦊.",
    "",
]


def main(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    embeddings = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        mean = hidden.mean(dim=1)[0]
        embedding = torch.nn.functional.normalize(mean, dim=0)
        embeddings.append({"text": text, "embedding": embedding.tolist()})
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    json.dump({"versions": versions, "embeddings": embeddings}, sys.stdout)
    print()


if __name__ == "__main__":
    main(sys.argv[1])
