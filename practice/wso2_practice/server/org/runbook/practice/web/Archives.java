package org.runbook.practice.web;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import org.runbook.practice.Log;
import org.runbook.practice.Streams;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/**
 * Carbon applications (carbonapps/*.car) and services (axis2services/*.aar): the product's lines in the log as they come,
 * change and go (facts 3.6), and nothing that answers.
 */
final class Archives {
    private static final String MANAGER = "org.wso2.carbon.application.deployer.internal.ApplicationManager";
    private static final String CAPP = "org.wso2.carbon.application.deployer.CappAxis2Deployer";
    private static final String SERVICES = "org.apache.axis2.deployment.ServiceDeployer";
    private static final String TENANT = " {super-tenant}";

    private final Settings settings;
    private final Map<Path, String> looks = new TreeMap<>();
    private final Map<Path, String> names = new TreeMap<>(); // of what is deployed

    Archives(Settings settings) {
        this.settings = settings;
    }

    void look() {
        Set<Path> present = new HashSet<>(files("carbonapps", ".car"));
        present.addAll(files("axis2services", ".aar"));
        for (Path file : new ArrayList<>(looks.keySet())) {
            if (!present.contains(file) || !looks.get(file).equals(Deployer.lookOf(file))) {
                undeploy(file);
                looks.remove(file);
            }
        }
        for (Path file : present) {
            if (looks.putIfAbsent(file, Deployer.lookOf(file)) == null) {
                deploy(file);
            }
        }
    }

    private Set<Path> files(String folder, String suffix) {
        try (Stream<Path> found = Files.list(settings.deployment(folder))) {
            return found.filter(file -> file.toString().endsWith(suffix)).collect(Collectors.toSet());
        } catch (IOException e) {
            return new HashSet<>(); // no such folder
        }
    }

    private void deploy(Path file) {
        String name = file.getFileName().toString();
        boolean application = name.endsWith(".car");
        if (application) {
            Log.info(MANAGER, "Deploying Carbon Application : " + name + "...");
        }
        try {
            Element described = described(file, application ? "artifacts.xml" : "META-INF/services.xml");
            if (application) {
                Element itself = Xml.first(described, "artifact");
                names.put(file, itself.getAttribute("name") + "_" + itself.getAttribute("version"));
                Log.info(MANAGER, "Successfully Deployed Carbon Application : " + names.get(file) + TENANT);
            } else {
                names.put(file, name.substring(0, name.lastIndexOf('.')));
                Log.info("org.apache.axis2.deployment.DeploymentEngine", "Deploying Web service: " + name + " - " + file.toUri());
            }
        } catch (IOException | SAXException | NullPointerException e) {
            if (application) {
                Log.error(CAPP, "Error while deploying carbon application " + file, e);
            } else {
                Log.error(SERVICES, "The " + name + " service, which is not valid, caused " + e);
            }
        }
    }

    private static Element described(Path archive, String entry) throws IOException, SAXException {
        try (ZipFile zip = new ZipFile(archive.toFile())) {
            ZipEntry found = zip.getEntry(entry);
            if (found == null) {
                throw new IOException(entry + " is not in it");
            }
            return Xml.parse(new String(Streams.readAll(zip.getInputStream(found)), StandardCharsets.UTF_8)).getDocumentElement();
        }
    }

    private void undeploy(Path file) {
        String name = names.remove(file);
        if (!file.toString().endsWith(".car")) {
            if (name != null) {
                Log.info(SERVICES, "Undeploying Web service: " + name);
            }
        } else if (name == null) {
            Log.info(CAPP, "Undeploying Faulty Carbon Application On : " + file);
        } else {
            Log.info(MANAGER, "Undeploying Carbon Application : " + name + "...");
            Log.info(MANAGER, "Successfully Undeployed Carbon Application : " + name + TENANT);
        }
    }
}
