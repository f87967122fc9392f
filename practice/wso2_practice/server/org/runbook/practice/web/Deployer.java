package org.runbook.practice.web;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Comparator;
import java.util.Enumeration;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.apache.catalina.Context;
import org.runbook.practice.Log;
import org.runbook.practice.Threads;
import org.runbook.practice.conf.Settings;

/**
 * Web applications dropped into repository/deployment/server/webapps: archives and folders come, change and go while
 * the server runs, at the interval of carbon.xml. An archive is unpacked beside itself (unpackWARs).
 */
public final class Deployer {
    private static final String SOURCE = "org.wso2.carbon.webapp.mgt.TomcatGenericWebappsDeployer";

    /** A deployed application and the look that its file had then. */
    private static final class Deployed {
        private final Context context;
        private final Path file;
        private final String look;

        Deployed(Context context, Path file, String look) {
            this.context = context;
            this.file = file;
            this.look = look;
        }

        public Context context() {
            return context;
        }

        public Path file() {
            return file;
        }

        public String look() {
            return look;
        }
    }

    private final Settings settings;
    private final Web web;
    private final Path folder;
    private final Archives others;
    private final Map<String, Deployed> deployed = new TreeMap<>();

    public Deployer(Settings settings, Web web) {
        this.settings = settings;
        this.web = web;
        folder = settings.deployment("webapps");
        others = new Archives(settings);
    }

    /** Deploys what is there, then looks again for ever. */
    public void start() {
        look();
        Threads.start("deployment", () -> {
            while (true) {
                Thread.sleep(1000L * settings.deploymentInterval());
                look();
            }
        });
    }

    synchronized Collection<String> names() {
        return new java.util.ArrayList<>(deployed.keySet());
    }

    private synchronized void look() {
        others.look();
        Map<String, Path> present = new HashMap<>();
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file : files.sorted(Comparator.comparing(f -> f.toString().endsWith(".war"))).collect(Collectors.toList())) {
                String name = file.getFileName().toString();
                boolean archive = name.endsWith(".war");
                if (archive || Files.isDirectory(file.resolve("WEB-INF"))) {
                    present.put(archive ? name.substring(0, name.length() - 4) : name, file);
                }
            }
        } catch (IOException e) {
            return; // no such folder: nothing to deploy
        }
        for (String name : deployed.keySet().toArray(new String[0])) {
            Deployed known = deployed.get(name);
            boolean unpacked = known.file.toString().endsWith(".war") && !Files.exists(known.file);
            if (!present.containsKey(name) || unpacked || !known.look.equals(lookOf(known.file))) {
                undeploy(name, known);
                if (unpacked) {
                    present.remove(name);
                }
            }
        }
        present.forEach((name, file) -> {
            if (!deployed.containsKey(name)) {
                deploy(name, file);
            }
        });
    }

    private void deploy(String name, Path file) {
        Log.info("org.wso2.carbon.webapp.deployer.WebappDeployer", "Deploying Web app : " + file);
        try {
            Path base = file;
            if (file.toString().endsWith(".war")) {
                base = folder.resolve(name);
                delete(base);
                unpack(file, base);
            }
            String path = name.equals("ROOT") ? "" : "/" + name.replace('#', '/');
            Context context = web.userContext(path, base);
            web.host().addChild(context);
            if (!context.getState().isAvailable()) {
                web.host().removeChild(context);
                throw new IOException("the application did not start");
            }
            deployed.put(name, new Deployed(context, file, lookOf(file)));
            Log.info(SOURCE, "Deployed webapp: StandardEngine[Catalina].StandardHost[localhost].StandardContext[" + path
                    + "].File[" + file + "]");
        } catch (IOException | RuntimeException e) {
            Log.error(SOURCE, "Error while deploying webapp: " + file, e); // half a copy perhaps: tried again next time
        }
    }

    private void undeploy(String name, Deployed known) {
        try {
            known.context.stop();
            web.host().removeChild(known.context);
            known.context.destroy();
            if (known.file.toString().endsWith(".war")) {
                delete(folder.resolve(name));
            }
        } catch (org.apache.catalina.LifecycleException | IOException e) {
            Log.error(SOURCE, "Error while undeploying webapp: " + known.file, e);
        }
        deployed.remove(name);
        Log.info(SOURCE, "Undeployed webapp: StandardEngine[Catalina].StandardHost[localhost].StandardContext[/" + name
                + "].File[" + known.file + "]");
    }

    static String lookOf(Path file) {
        try {
            return Files.getLastModifiedTime(file) + " " + (Files.isDirectory(file) ? 0 : Files.size(file));
        } catch (IOException e) {
            return "";
        }
    }

    private static void unpack(Path archive, Path to) throws IOException {
        try (ZipFile zip = new ZipFile(archive.toFile())) {
            for (Enumeration<? extends ZipEntry> entries = zip.entries(); entries.hasMoreElements();) {
                ZipEntry entry = entries.nextElement();
                Path target = to.resolve(entry.getName()).normalize();
                if (!target.startsWith(to)) {
                    throw new IOException("the archive names a file outside of itself: " + entry.getName());
                }
                if (entry.isDirectory()) {
                    Files.createDirectories(target);
                    continue;
                }
                Files.createDirectories(target.getParent());
                try (InputStream in = zip.getInputStream(entry)) {
                    Files.copy(in, target);
                }
            }
        }
    }

    private static void delete(Path tree) throws IOException {
        if (!Files.exists(tree)) {
            return;
        }
        try (Stream<Path> files = Files.walk(tree)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
    }
}
