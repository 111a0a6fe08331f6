//! Reading G-code, line by line; it shares nothing with the code that writes it.

/// One letter and its number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// Upper-case letter.
    pub letter: char,
    /// Its number; zero where there is none, as in `G28 X`.
    pub value: f64,
}

/// One command: a letter, a code and its words.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `G`, `M` or `T`.
    pub letter: char,
    /// The number behind it.
    pub code: u32,
    /// The words behind that, in order.
    pub words: Vec<Word>,
}

impl Command {
    /// The value of the first word with this letter.
    #[must_use]
    pub fn get(&self, letter: char) -> Option<f64> {
        self.words
            .iter()
            .find(|w| w.letter == letter)
            .map(|w| w.value)
    }

    /// Whether this is the command `letter` `code`.
    #[must_use]
    pub fn is(&self, letter: char, code: u32) -> bool {
        self.letter == letter && self.code == code
    }
}

/// One line: maybe a command, maybe a comment.
#[derive(Debug, Clone, PartialEq)]
pub struct Line<'a> {
    /// The command, if there is one.
    pub command: Option<Command>,
    /// The text behind `;`, if there is one, trimmed.
    pub comment: Option<&'a str>,
}

/// Numbers larger than this are mistakes, whatever they mean.
const LARGEST: f64 = 1e7;

/// Reads one line.
///
/// # Errors
/// What is wrong with it, as a fragment of a sentence.
pub fn line(text: &str) -> Result<Line<'_>, String> {
    let (code, comment) = match text.split_once(';') {
        Some((code, comment)) => (code, Some(comment.trim())),
        None => (text, None),
    };
    let mut words = Vec::new();
    let mut rest = code.trim();
    while let Some(letter) = rest.chars().next() {
        if !letter.is_ascii_alphabetic() {
            return Err(format!(
                "`{}` where a letter should be",
                letter.escape_default()
            ));
        }
        let tail = &rest[1..];
        let digits = tail
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
            .unwrap_or(tail.len());
        let letter = letter.to_ascii_uppercase();
        words.push((letter, &tail[..digits]));
        rest = tail[digits..].trim_start();
    }
    let Some((&(letter, code), words)) = words.split_first() else {
        return Ok(Line {
            command: None,
            comment,
        });
    };
    if !matches!(letter, 'G' | 'M' | 'T') {
        return Err(format!(
            "command begins with `{letter}` instead of G, M or T"
        ));
    }
    let code = code
        .parse::<u32>()
        .map_err(|_| format!("`{letter}{code}` is not a command"))?;
    let words = words
        .iter()
        .map(|&(letter, text)| {
            let value = if text.is_empty() {
                0.0
            } else {
                number(letter, text)?
            };
            Ok(Word { letter, value })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Line {
        command: Some(Command {
            letter,
            code,
            words,
        }),
        comment,
    })
}

fn number(letter: char, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.abs() <= LARGEST => Ok(value),
        Ok(_) => Err(format!("`{letter}{text}` is beyond all sense")),
        Err(_) => Err(format!("`{letter}{text}` is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_words_and_comments_are_told_apart() {
        let read = line("g1 X10.5Y-2 E.4 F1800 ; a move").unwrap();
        let command = read.command.unwrap();
        assert!(command.is('G', 1));
        assert_eq!(
            [command.get('X'), command.get('Y'), command.get('E')],
            [Some(10.5), Some(-2.0), Some(0.4)]
        );
        assert_eq!(command.get('Z'), None);
        assert_eq!(read.comment, Some("a move"));
        assert_eq!(
            line(";TYPE:FILL").unwrap(),
            Line {
                command: None,
                comment: Some("TYPE:FILL")
            }
        );
        assert_eq!(
            line("  ").unwrap(),
            Line {
                command: None,
                comment: None
            }
        );
        assert_eq!(line("G28 X").unwrap().command.unwrap().get('X'), Some(0.0));
    }

    #[test]
    fn nonsense_is_refused_with_the_word() {
        for (text, part) in [
            ("G1 X1..2", "`X1..2`"),
            ("G1 X--2", "`X--2`"),
            ("G1 5", "`5`"),
            ("X10", "`X`"),
            ("G", "`G`"),
            ("G1.5", "`G1.5`"),
            ("G1 X99999999", "`X99999999`"),
            ("Gä", "`\\u{e4}`"),
            ("hello", "`H`"),
            ("\u{7f}", "`\\u{7f}`"),
            ("G1 X1e5", "`E5`"),
        ] {
            let result = line(text);
            if text == "G1 X1e5" {
                // G-code has no exponents: this is X1 and E5.
                assert_eq!(result.unwrap().command.unwrap().get('E'), Some(5.0));
            } else {
                let error = result.unwrap_err();
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }
}
