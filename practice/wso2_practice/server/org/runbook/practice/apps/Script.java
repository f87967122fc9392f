package org.runbook.practice.apps;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * A .jag file of the pack: it stands for a script of the real application, and its first line says in rules how that one
 * answers. The first rule that fits is taken; the rest of the file is the body of an answer that has one.
 *
 * <pre>
 * &lt;% // practice: anonymous 401; user does assets-api; GET 404 json; 400 json
 * rule:    [anonymous | user] [GET | POST] answer     nothing said: anyone, any method
 * answer:  STATUS [json | page | none]                an error page where no kind is said, nothing at all with none
 *          302 LOCATION                               {query}: the request's query string, "null" without one
 *          does NAME                                  what the application does by that name, if the request is enough for it
 * </pre>
 */
final class Script {
    private final List<Rule> rules;
    private final String body;

    Script(List<Rule> rules, String body) {
        this.rules = rules;
        this.body = body;
    }

    public List<Rule> rules() {
        return rules;
    }

    public String body() {
        return body;
    }

    private static final Pattern LINE = Pattern.compile("<% // practice: (.*)");
    private static final Pattern RULE = Pattern.compile(
            "(?:(anonymous|user) )?(?:(GET|POST) )?(?:does (\\S+)|(\\d{3})(?: (\\S+))?)");

    /** One rule; {@code does} or {@code status} is set. */
    static final class Rule {
        private final String who;
        private final String method;
        private final String does;
        private final int status;
        private final String kind;

        Rule(String who, String method, String does, int status, String kind) {
            this.who = who;
            this.method = method;
            this.does = does;
            this.status = status;
            this.kind = kind;
        }

        public String who() {
            return who;
        }

        public String method() {
            return method;
        }

        public String does() {
            return does;
        }

        public int status() {
            return status;
        }

        public String kind() {
            return kind;
        }

        boolean fits(boolean signedIn, String asked) {
            return (who == null || who.equals("user") == signedIn) && (method == null || method.equals(asked));
        }
    }

    /** Every script below a folder, under its path in the application. */
    static Map<String, Script> below(Path folder) throws IOException {
        Map<String, Script> found = new TreeMap<>();
        try (Stream<Path> files = Files.walk(folder)) {
            files.filter(file -> file.toString().endsWith(".jag")).forEach(file -> {
                try {
                    found.put("/" + folder.relativize(file), parse(new String(Files.readAllBytes(file), StandardCharsets.UTF_8)));
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
        return found;
    }

    /** A script without a line for us is one that fails. */
    private static Script parse(String text) {
        List<Rule> rules = new ArrayList<>();
        Matcher line = LINE.matcher(text);
        if (line.lookingAt()) {
            for (String rule : line.group(1).split(";")) {
                Matcher is = RULE.matcher(rule.trim());
                if (!is.matches()) {
                    throw new IllegalArgumentException("not a rule: " + rule);
                }
                rules.add(new Rule(is.group(1), is.group(2), is.group(3),
                        is.group(4) == null ? 0 : Integer.parseInt(is.group(4)), is.group(5)));
            }
        }
        rules.add(new Rule(null, null, null, 500, null));
        return new Script(rules, text.substring(text.indexOf("%>") + 2).trim());
    }
}
