"""The documentation's site, made by Sphinx from the pages beside this file: `setup/docs`.

Nothing of it comes from the internet when it is read: Furo's style sheets, scripts and fonts are
copied into it.
"""

project = "lxc-gpu"
copyright = "the contributors of lxc-gpu, MIT licence"
extensions = ["myst_parser"]
exclude_patterns = ["pictures"]
nitpicky = True

myst_heading_anchors = 4  # as deep as GitHub's links to headings are used here

html_theme = "furo"
html_title = "lxc-gpu"
html_favicon = "../webui/static/icon.svg"
html_logo = "../webui/static/icon.svg"
html_static_path = ["style"]
html_css_files = ["site.css"]  # the logo small
html_copy_source = False
html_show_sphinx = False
highlight_language = "text"  # transcripts; a block names its language if it has one
