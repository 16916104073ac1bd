"""How many episodes LaMo's script for low data keeps: sample_ratio.json.

Their `ratio_dataset.py` runs on pickled lists of so many episodes. Which it keeps is drawn without a seed.

python tests/golden/sample_ratio.py --authors LAMO
"""

import json
import os
import pickle
import runpy
import tempfile

import authors

COMMIT = "srzer/LaMo-2023@3e4fcc8"
COUNTS = [1, 2, 9, 10, 29, 57, 99, 100, 199, 200, 290, 1000, 1001, 2041, 2186]


def main():
    folder = authors.arguments(__doc__).authors / "data" / "mujoco"
    authors.stand_in("gym")
    kept = {}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as out:
            before = os.getcwd()
            os.chdir(out)
            for name in ("hopper", "walker2d", "halfcheetah"):
                with open(f"{name}-medium-v2.pkl", "wb") as file:
                    pickle.dump(list(range(count)), file)
            runpy.run_path(str(folder / "ratio_dataset.py"))
            for ratio in (0.1, 0.01, 0.005):
                with open(f"hopper-medium-{ratio}-yoursuffix-v2.pkl", "rb") as file:
                    kept[f"{count} {ratio}"] = pickle.load(file)
            os.chdir(before)
    assert all(len(set(episodes)) == len(episodes) for episodes in kept.values())
    counts = {key: len(episodes) for key, episodes in kept.items()}
    text = json.dumps({"authors": COMMIT, "kept": counts}, indent=1) + "\n"
    (authors.HERE / "sample_ratio.json").write_text(text)


if __name__ == "__main__":
    main()
