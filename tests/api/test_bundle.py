"""Modules as one: what is made of the statements that ours have, and that no other passes unnoticed."""

import pytest

from logsvc.api.bundle import bundle

FILES = {
    "entry.js": 'import sheet from "./look.css" with { type: "css" };\nimport {\n  add,\n  ONE,\n} from "./sums.js";\n'
    'import "./effects.js";\n/** Says it. */\nexport class Pane {}\nconst own = add(ONE, 1);\n\nsheet.own = own;\n',
    "sums.js": "export const ONE = 1;\n  // why\nexport async function* add(a, b) {}\nconst own = 2;\n",
    "effects.js": 'import { ONE } from "./sums.js";\nglobalThis.one = ONE;\n',
    "look.css": 'p::before { content: "\\201c\n"; }\n',
}


def test_a_module_stands_behind_those_that_it_imports() -> None:
    assert bundle(FILES, "entry.js") == (
        "const $look_css = new CSSStyleSheet();\n"
        '$look_css.replaceSync("p::before { content: \\"\\\\201c\\n\\"; }\\n");\n'
        "const $sums_js = (() => {\n"
        "const ONE = 1;\nasync function* add(a, b) {}\nconst own = 2;\n"
        "return { ONE, add };\n})();\n"
        "const $effects_js = (() => {\n"
        "const { ONE } = $sums_js;\nglobalThis.one = ONE;\n"
        "return {  };\n})();\n"
        "const $entry_js = (() => {\n"
        "const sheet = $look_css;\nconst {\n  add,\n  ONE,\n} = $sums_js;\nclass Pane {}\n"
        "const own = add(ONE, 1);\nsheet.own = own;\n"
        "return { Pane };\n})();\n"
        "export const { Pane } = $entry_js;\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "export default 1;",
        "export { a };",
        'export * from "./sums.js";',
        "export let a = 1;",
        'import * as sums from "./sums.js";',
        'import { ONE as one } from "./sums.js";',
        'import { ONE } from "elsewhere";',
    ],
)
def test_what_is_not_understood_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match=r"entry\.js"):
        bundle({"entry.js": f"{statement}\n", "sums.js": FILES["sums.js"]}, "entry.js")


def test_a_cycle_is_refused() -> None:
    files = {"a.js": 'import "./b.js";\n', "b.js": 'import "./a.js";\n'}
    with pytest.raises(ValueError, match=r"a\.js → b\.js → a\.js"):
        bundle(files, "a.js")


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        bundle({"a.js": 'import "./b.js";\n'}, "a.js")
