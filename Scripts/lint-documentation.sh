#!/bin/bash
# Says which public symbols of the floors below have no documentation comment. Members that fulfil a requirement of a protocol
# have it from there: their names are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
floors=(Sources/Files Sources/Tokenizers Sources/Templates Sources/Models Sources/Inference)
inherited='description|errorDescription|encode|beginToken|endTokens|parsesSpecialTokensByDefault|vocabularySize|makeDecoder'
inherited+='|token|id|push|cut|initialState|stateBytes|dependsOnLength|fix|callAsFunction|hidden|hiddenStates|outputs'
inherited+='|languageHead|width|maximumLength|document|computeType|decoder|visitParameters|modelType|architectures|basePrefix'
inherited+='|tied|ignored|model'
configuration=$(mktemp)
trap 'rm -f "$configuration"' EXIT
sed 's/"rules": {/"rules": { "AllPublicDeclarationsHaveDocumentation": true,/' .swift-format > "$configuration"
status=0
while IFS=: read -r file line _; do
  text=$(sed -n "${line}p" "$file")
  if grep -Eq "(var|let|func) ($inherited)\\b|init\\((from |[a-zA-Z]*Literal)" <<< "$text"; then continue; fi
  echo "$file:$line: no documentation comment:${text}"
  status=1
done < <(swift format lint --configuration "$configuration" --recursive --parallel "${floors[@]}" 2>&1 |
  grep '\[AllPublicDeclarationsHaveDocumentation\]')
exit $status
