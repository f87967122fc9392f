package org.runbook.practice;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;

/** The log of the server, in Carbon's own line format: repository/logs/wso2carbon.log and the console. */
public final class Log {
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss,SSS");
    private static PrintWriter file;

    private Log() {
    }

    /** Opens the log for appending: every start of the server adds to the same file, as on the real product. */
    public static void open(Path home) throws IOException {
        Path logs = Files.createDirectories(home.resolve("repository/logs"));
        file = new PrintWriter(Files.newBufferedWriter(logs.resolve("wso2carbon.log"), StandardCharsets.UTF_8,
                StandardOpenOption.CREATE, StandardOpenOption.APPEND), true);
    }

    public static void info(String source, String message) {
        write(" INFO", source, message, null);
    }

    public static void warn(String source, String message) {
        write(" WARN", source, message, null);
    }

    public static void error(String source, String message) {
        write("ERROR", source, message, null);
    }

    public static void error(String source, String message, Throwable cause) {
        write("ERROR", source, message, cause);
    }

    public static void fatal(String source, String message, Throwable cause) {
        write("FATAL", source, message, cause);
    }

    private static synchronized void write(String level, String source, String message, Throwable cause) {
        String head = "[" + TIME.format(LocalDateTime.now()) + "] " + level + " {" + source + "} -  " + message;
        String trace = cause == null ? "" : trace(cause);
        System.out.println(head + trace);
        if (file != null) {
            file.println("TID: [-1234] [] " + head + " {" + source + "}" + trace);
        }
    }

    private static String trace(Throwable cause) {
        StringWriter text = new StringWriter();
        cause.printStackTrace(new PrintWriter(text, true));
        return System.lineSeparator() + text.toString().replaceFirst("\\s+$", "");
    }
}
