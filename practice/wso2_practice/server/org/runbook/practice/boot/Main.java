package org.runbook.practice.boot;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import javax.servlet.Servlet;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.apps.Assets;
import org.runbook.practice.apps.JaggeryApp;
import org.runbook.practice.apps.PublisherApp;
import org.runbook.practice.apps.SocialApp;
import org.runbook.practice.apps.SsoApp;
import org.runbook.practice.apps.StoreApp;
import org.runbook.practice.cluster.Cluster;
import org.runbook.practice.conf.Keys;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.db.DataSources;
import org.runbook.practice.registry.Registry;
import org.runbook.practice.sso.IdentityProvider;
import org.runbook.practice.users.Users;
import org.runbook.practice.web.AdminServices;
import org.runbook.practice.web.Console;
import org.runbook.practice.web.Deployer;
import org.runbook.practice.web.Jmx;
import org.runbook.practice.web.Node;
import org.runbook.practice.web.Page;
import org.runbook.practice.web.Web;

/** The boot sequence, with the log lines of the real product in their order (facts 3.5 and 7, golden-run 2). */
public final class Main {
    private static final String FINALIZER = "org.wso2.carbon.core.internal.StartupFinalizerServiceComponent";
    private static final String[] APPLICATIONS = {"publisher", "store", "sso", "social"};

    private Main() {
    }

    /** Starts the server of -Dcarbon.home; arguments like -Dsetup count as system properties. */
    public static void main(String[] arguments) throws IOException {
        for (String argument : arguments) {
            if (argument.startsWith("-D")) {
                String[] property = argument.substring(2).split("=", 2);
                System.setProperty(property[0], property.length > 1 ? property[1] : "");
            }
        }
        Path home = Paths.get(System.getProperty("carbon.home", ".")).toAbsolutePath().normalize();
        Log.open(home);
        String pid = ManagementFactory.getRuntimeMXBean().getName().split("@")[0];
        Files.write(home.resolve("wso2carbon.pid"), pid.getBytes(StandardCharsets.US_ASCII));
        Logger.getLogger("").setLevel(Level.SEVERE);
        if (Boolean.getBoolean("workerNode") && !Files.isDirectory(home.resolve("repository/components/worker"))) {
            Log.fatal("org.wso2.carbon.server.CarbonLauncher", "OSGi runtime worker profile not found",
                    new IllegalStateException(home.resolve("repository/components/worker").toString()));
            System.exit(1);
        }
        try {
            boot(home, System.currentTimeMillis());
        } catch (BootFailure failure) {
            hang();
        }
    }

    /** Like the real one after a failed boot: alive, with a pid file, without a port and without a further word. */
    private static void hang() {
        try {
            Thread.sleep(Long.MAX_VALUE);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void boot(Path home, long start) throws IOException {
        Log.info(Settings.CORE, "This is a practice server, not a product of WSO2: a double to rehearse a cluster with");
        Log.info(Settings.CORE, "Starting WSO2 Carbon...");
        for (String name : new String[] {"os.name", "java.home", "java.version", "java.vm.name", "user.name"}) {
            Log.info(Settings.CORE, String.format("%-17s: %s", name, System.getProperty(name)));
        }
        Log.info(Settings.CORE, "Carbon Home      : " + home);
        Settings settings = new Settings(home);
        Page.signedBy(settings);
        Cluster cluster = new Cluster(settings);
        Keys keys = new Keys(settings);
        DataSources sources = new DataSources(settings);
        Users users = new Users(settings, sources);
        Registry registry = new Registry(settings, sources);
        Node node = new Node(settings, keys, sources, users, registry, cluster);
        Web web = new Web(settings);
        Deployer deployer = new Deployer(settings, web);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(node, web), "shutdown"));
        try {
            FirstBoot.write(registry, settings.greg);
            deploySurfaces(node, web, deployer);
        } catch (SQLException e) {
            Log.error(FINALIZER, "Cannot start the applications: " + e.getMessage(), e);
            throw new BootFailure("applications", e);
        }
        registry.join(cluster);
        cluster.start();
        web.open();
        Log.info("org.apache.tomcat.util.net.NioSelectorPool", "Using a shared selector for servlet write/read");
        Jmx.start(settings, users);
        Log.info(FINALIZER, "Server           :  " + settings.productName + "-" + settings.version);
        Log.info(FINALIZER, "WSO2 Carbon started in " + Math.max(1, (System.currentTimeMillis() - start) / 1000) + " sec");
        if (!settings.worker) {
            Log.info("org.wso2.carbon.ui.internal.CarbonUIServiceComponent", "Mgt Console URL  : https://"
                    + settings.mgtHostName + ":" + settings.publicPort(true) + "/carbon/");
        }
    }

    private static void deploySurfaces(Node node, Web web, Deployer deployer) throws IOException, SQLException {
        Settings settings = node.settings();
        Map<String, Servlet> root = new LinkedHashMap<>();
        root.put("/", new Console(node, deployer));
        root.put("/services/*", new AdminServices(node));
        if (settings.has("identity/sso-idp-config.xml")) {
            IdentityProvider provider = new IdentityProvider(node);
            root.put("/samlsso", provider);
            root.put("/commonauth", provider);
        }
        web.context("", root);
        Log.info("org.wso2.carbon.core.transports.http.HttpTransportListener", "HTTP port        : " + settings.port(false));
        Log.info("org.wso2.carbon.core.transports.http.HttpsTransportListener", "HTTPS port       : " + settings.port(true));
        Assets assets = new Assets(settings, node.registry());
        for (String name : APPLICATIONS) {
            Path folder = settings.deployment("jaggeryapps/" + name);
            if (Files.isDirectory(folder)) {
                web.context("/" + name, Literals.map("/*", application(name, node, assets)));
                Log.info("org.jaggeryjs.jaggery.app.mgt.TomcatJaggeryWebappsDeployer", "Deployed webapp: StandardEngine"
                        + "[Catalina].StandardHost[localhost].StandardContext[/" + name + "].File[" + folder + "]");
            }
        }
        web.start();
        deployer.start();
    }

    private static Servlet application(String name, Node node, Assets assets) throws IOException, SQLException {
        switch (name) {
            case "sso":
                return new SsoApp(node);
            case "social":
                return new SocialApp(node);
            default:
                JaggeryApp app = name.equals("store") ? new StoreApp(node, assets) : new PublisherApp(node, assets);
                app.firstBoot();
                if (node.registry().hasDuplicates("/_system/config")) {
                    Log.error("JAGGERY.app-scripts.init-scripts.app:js", "TypeError: Cannot read property \"0.0\" from"
                            + " undefined (<lifecycle>/scripts/core/core.js#61)");
                }
                return app;
        }
    }

    private static void stop(Node node, Web web) {
        Log.info("org.wso2.carbon.core.init.CarbonServerManager", "Shutdown hook triggered....");
        Log.info("org.wso2.carbon.core.init.CarbonServerManager", "Gracefully shutting down "
                + node.settings().productName + "...");
        web.stop();
        node.cluster().stop();
        node.sources().close();
        Log.info("org.wso2.carbon.core.ServerManagement", "Shutdown complete");
        Log.info("org.wso2.carbon.core.init.CarbonServerManager", "Halting JVM");
    }
}
