# Renders the chart as helm does: render-chart.py CHART VALUES(JSON) [RELEASE] -> {"lint": [...], "files": {template: text}} on stdout, or {"error": "..."}.
import json
import os
import sys

import helm_python as helm

chart, values = sys.argv[1], json.loads(sys.argv[2])
release = sys.argv[3] if len(sys.argv) > 3 else "keymeter"
# helm says on stdout which symbolic links it followed.
own = os.dup(1)
os.dup2(2, 1)
try:
    lint = helm.lint(chart).get("errors", [])
    files = helm.Chart.load(chart).render(values=values, name=release, namespace="prod")
    answer = {"lint": list(lint), "files": {name: text for name, text in files.items()}}
except Exception as error:
    answer = {"error": str(error)}
os.write(own, json.dumps(answer).encode())
