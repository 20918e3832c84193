"""Write `page.html` beside this file: what `dvc plots show` and `dvc plots diff` open, offline.

DVC's own page loads Vega from a CDN. This one holds it, bundled by vl-convert-python. Run
`python .dvc/plots/make_page.py` after an upgrade of that package.
"""

from pathlib import Path

import vl_convert

VEGA_LITE = "6.4"
# DVC's templates name Vega-Lite 5, which 6 reads too, with a warning if they say so. The menu lacks
# the entry that would send the data to an editor on the network.
SNIPPET = """
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
window.vegaEmbed = (element, {$schema, ...spec}) => vegaEmbed(element, spec, {
  mode: "vega-lite",
  actions: {export: true, source: true, compiled: false, editor: false},
  ...(dark ? {theme: "dark"} : {}),
});
"""
LICENCES = """
Vega, Vega-Lite, Vega-Embed and their parts: Copyright (c) 2013-2023, University of Washington
Interactive Data Lab. BSD 3-Clause. D3: Copyright 2010-2023 Mike Bostock. ISC. lodash: Copyright
OpenJS Foundation and other contributors. MIT.

BSD 3-Clause: Redistribution and use in source and binary forms, with or without modification, are
permitted provided that the following conditions are met: 1. Redistributions of source code must
retain the above copyright notice, this list of conditions and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions
and the following disclaimer in the documentation and/or other materials provided with the
distribution. 3. Neither the name of the copyright holder nor the names of its contributors may be
used to endorse or promote products derived from this software without specific prior written
permission. THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY
EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF
MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT
HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR
CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES;
LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF
LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE)
ARISING IN ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH
DAMAGE.

ISC: Permission to use, copy, modify, and/or distribute this software for any purpose with or
without fee is hereby granted, provided that the above copyright notice and this permission notice
appear in all copies. THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT
SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY
DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT,
NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.

MIT: Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions: The above copyright notice and this
permission notice shall be included in all copies or substantial portions of the Software. THE
SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
# DVC replaces {refresh_tag} and {plot_divs}; the scripts that it brings stay out.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh_tag}
<title>Plots</title>
<link rel="icon" href="data:,">
<style>
body{font:1rem/1.5 system-ui,sans-serif;margin:1rem;display:flex;flex-wrap:wrap;gap:1rem}
body>*{max-width:100%;overflow-x:auto}img{max-width:100%;height:auto}
</style>
<!--LICENCES-->
<script>
BUNDLE
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    """Write the page; the same version of vl-convert-python gives the same bytes."""
    bundle = vl_convert.javascript_bundle(SNIPPET, vl_version=VEGA_LITE)
    page = PAGE.replace("LICENCES", LICENCES).replace("BUNDLE", bundle)
    Path(__file__).with_name("page.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
