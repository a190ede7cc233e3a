//! Compound commands: `if`, loops, `case`, groups and subshells.

use super::{Node, Read, Reader, Simple, harmless};

impl Reader<'_> {
    pub(super) fn command(&mut self) -> Read<Node> {
        let node = match self.reserved(false) {
            Some("if") => self.condition()?,
            Some(word @ ("while" | "until")) => {
                self.at += word.len();
                let condition = self.list(&["do"])?;
                Node::Loop(Box::new(condition), Box::new(self.body()?), word == "until")
            }
            Some("for") => {
                self.at += 3;
                self.blanks(false);
                self.word()?;
                self.blanks(true);
                let mut words = Vec::new();
                if self.eats("in") {
                    loop {
                        self.blanks(false);
                        match self.peek() {
                            Some(';' | '\n') | None => break,
                            _ => words.push(self.word()?),
                        }
                    }
                }
                self.blanks(false);
                self.eats(";");
                Node::For(words, Box::new(self.body()?))
            }
            Some("case") => self.case()?,
            Some("{") => {
                self.at += 1;
                let node = self.list(&["}"])?;
                self.keyword("}")?;
                node
            }
            Some(_) => return Err("syntax error: reserved word where a command is expected"),
            None if self.sees("((") => return Err("it has an arithmetic command"),
            None if self.eats("(") => {
                let node = self.list(&[")"])?;
                if !self.eats(")") {
                    return Err("syntax error: missing )");
                }
                Node::Subshell(Box::new(node))
            }
            None => return self.simple(),
        };
        // Redirections of a whole compound command do not change what it runs; one that fails keeps it from being run.
        let mut redirects = Vec::new();
        loop {
            self.blanks(false);
            match self.redirection()? {
                Some((operator, word)) if harmless(&operator, &word) => {}
                Some(redirect) => redirects.push(redirect),
                None if redirects.is_empty() => return Ok(node),
                None => {
                    let opened = Node::Simple(Simple {
                        redirects,
                        ..Simple::default()
                    });
                    return Ok(Node::And(Box::new(opened), Box::new(node)));
                }
            }
        }
    }

    fn body(&mut self) -> Read<Node> {
        self.keyword("do")?;
        let node = self.list(&["done"])?;
        self.keyword("done")?;
        Ok(node)
    }

    fn condition(&mut self) -> Read<Node> {
        let mut arms = Vec::new();
        self.at += 2;
        loop {
            let condition = self.list(&["then"])?;
            self.keyword("then")?;
            arms.push((condition, self.list(&["elif", "else", "fi"])?));
            match self.reserved(true) {
                Some("elif") => self.at += 4,
                Some("else") => {
                    self.at += 4;
                    let other = self.list(&["fi"])?;
                    self.keyword("fi")?;
                    return Ok(Node::If(arms, Some(Box::new(other))));
                }
                _ => {
                    self.keyword("fi")?;
                    return Ok(Node::If(arms, None));
                }
            }
        }
    }

    fn case(&mut self) -> Read<Node> {
        self.at += 4;
        self.blanks(false);
        let word = self.word()?;
        self.blanks(true);
        if !self.eats("in") {
            return Err("syntax error: incomplete compound command");
        }
        let mut arms = Vec::new();
        while self.reserved(true) != Some("esac") {
            self.eats("(");
            loop {
                self.blanks(false);
                self.word()?;
                self.blanks(false);
                if !self.eats("|") {
                    break;
                }
            }
            if !self.eats(")") {
                return Err("syntax error: incomplete compound command");
            }
            arms.push(self.list(&[";;", "esac"])?);
            self.blanks(true);
            self.eats(";;");
        }
        self.keyword("esac")?;
        Ok(Node::Case(word, arms))
    }
}
