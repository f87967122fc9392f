package org.runbook.practice.apps;

import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.runbook.practice.conf.Json;

/** jaggery.conf of an application: which script answers below which path, by the rules of servlet mappings (facts 12.2). */
final class UrlMappings {
    private final Map<String, String> scripts = new HashMap<>();
    private final List<?> welcome;

    UrlMappings(Path conf) throws IOException {
        Map<String, Object> read = Json.readFile(conf);
        for (Object mapping : Json.list(read.get("urlMappings"))) {
            scripts.put(Json.text(Json.map(mapping), "url", ""), Json.text(Json.map(mapping), "path", "/"));
        }
        welcome = Json.list(read.get("welcomeFiles"));
    }

    /** The script that answers; "/" where a mapping hides what lies there; null where nothing is mapped. */
    String target(String path) {
        if (scripts.containsKey(path)) {
            return scripts.get(path);
        }
        for (String prefix = path; !prefix.isEmpty(); prefix = prefix.substring(0, prefix.lastIndexOf('/'))) {
            if (scripts.containsKey(prefix + "/*")) {
                return scripts.get(prefix + "/*");
            }
        }
        return path.equals("/") && !welcome.isEmpty() ? String.valueOf(welcome.get(0)) : null;
    }
}
