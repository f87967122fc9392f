package org.runbook.practice.web;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Map;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.runbook.practice.Literals;

/** Files of an application, sent as they lie there to anyone: whatever no mapping hides, server-side code included. */
public final class StaticFiles {
    private static final Map<String, String> TYPES = Literals.map("css", "text/css",
            "js", "text/javascript", "json", "application/json", "html", "text/html",
            "png", "image/png", "woff", "font/woff", "woff2", "font/woff2",
            "ttf", "font/ttf");

    private StaticFiles() {
    }

    public static void send(Path folder, String path, HttpServletRequest request, HttpServletResponse response)
            throws IOException {
        Path file = file(folder, path);
        if (path.equals("/jaggery.conf")) {
            Page.send(response, 403, "Error 403", "<p>This file is not for visitors.</p>");
        } else if (file == null) {
            Surface.notFound(response);
        } else if (request.getMethod().matches("GET|HEAD|POST")) {
            String type = TYPES.get(path.substring(path.lastIndexOf('.') + 1));
            if (type != null) {
                response.setContentType(type);
            }
            response.getOutputStream().write(Files.readAllBytes(file));
        } else {
            Page.send(response, 403, "Error 403", "<p>Files can be read only.</p>");
        }
    }

    private static Path file(Path folder, String path) {
        try {
            Path file = folder.resolve(path.substring(1)).normalize();
            boolean ours = file.startsWith(folder) && Files.isRegularFile(file);
            return ours && !path.endsWith("/") && !path.endsWith(".jag") ? file : null;
        } catch (InvalidPathException e) {
            return null;
        }
    }
}
