// Takes a JSON object and answers with the key of what was done; it does nothing in the world yet.
// `run` is the place to begin: let it act, and hand the key on to the system that does.
import { Label, Level, log } from "./forewright/host";
import { Answer } from "./forewright/types";

/** JSON in, JSON out. The same `key` is the same action, which may be asked for again. */
export function run(input: string, key: string): Answer<string> {
  const asked = input.trim();
  if (!asked.startsWith("{") || !asked.endsWith("}")) {
    return Answer.invalidInput<string>("the input has to be an object");
  }
  log(Level.info, "is asked to act", [new Label("key", key), new Label("input", input)]);
  return Answer.of<string>(`{"done": ${quoted(key)}}`);
}

/** The text as a JSON string. */
function quoted(text: string): string {
  let json = '"';
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x20 && unit != 0x22 && unit != 0x5c) continue;
    json += text.substring(from, i) + "\\u" + unit.toString(16).padStart(4, "0");
    from = i + 1;
  }
  return json + text.substring(from) + '"';
}
