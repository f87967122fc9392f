package org.runbook.practice.web;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import javax.servlet.Servlet;
import org.apache.catalina.Context;
import org.apache.catalina.Host;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.Valve;
import org.apache.catalina.Wrapper;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.core.StandardContext;
import org.apache.catalina.session.StandardManager;
import org.apache.catalina.startup.ContextConfig;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.util.StandardSessionIdGenerator;
import org.apache.tomcat.util.IntrospectionUtils;
import org.apache.tomcat.util.scan.StandardJarScanner;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.w3c.dom.Attr;
import org.w3c.dom.Element;

/** Embedded Tomcat with the connectors and valves of catalina-server.xml; ports open last, as on the real product. */
public final class Web {
    private static final int APPLICATION_SESSION_BYTES = 128; // 256 hex digits, the root's are 32 (facts 10.3)
    private static final int ROOT_SESSION_BYTES = 16;
    private final Settings settings;
    private final Tomcat tomcat = new Tomcat();

    public Web(Settings settings) throws IOException {
        this.settings = settings;
        tomcat.setBaseDir(Files.createDirectories(settings.home.resolve("tmp/tomcat")).toString());
        Host host = tomcat.getHost();
        host.setAppBase(settings.deployment("webapps").toString());
        for (Element valve : Xml.all(settings.catalina, "Service/Engine/Host/Valve")) {
            add(host, valve);
        }
    }

    /** Tomcat's own valves work as written; those of Carbon have nothing to do here. */
    private void add(Host host, Element conf) {
        if (!conf.getAttribute("className").startsWith("org.apache.catalina.valves.")) {
            return;
        }
        try {
            Valve valve = (Valve) Class.forName(conf.getAttribute("className")).getDeclaredConstructor().newInstance();
            attributes(conf).forEach((name, value) -> IntrospectionUtils.setProperty(valve, name, value));
            host.getPipeline().addValve(valve);
        } catch (ReflectiveOperationException e) {
            Log.error("org.apache.tomcat.util.digester.Digester", "Begin event threw exception", e);
        }
    }

    private Map<String, String> attributes(Element conf) {
        Map<String, String> found = new java.util.LinkedHashMap<>();
        for (int i = 0; i < conf.getAttributes().getLength(); i++) {
            Attr attribute = (Attr) conf.getAttributes().item(i);
            if (!attribute.getName().equals("className")) {
                found.put(attribute.getName(), settings.resolve(attribute.getValue()));
            }
        }
        return found;
    }

    Host host() {
        return tomcat.getHost();
    }

    /** A user's web application, as its own web.xml, JSPs and annotations describe it; not yet started. */
    Context userContext(String path, Path base) {
        StandardContext context = new StandardContext();
        context.setName(path);
        context.setPath(path);
        context.setDocBase(base.toString());
        context.setUseRelativeRedirects(false);
        context.setSessionCookiePathUsesTrailingSlash(true);
        StandardJarScanner scanner = new StandardJarScanner();
        scanner.setScanClassPath(false); // nothing of the server's own jars is part of the application
        context.setJarScanner(scanner);
        ContextConfig config = new ContextConfig();
        config.setDefaultWebXml(tomcat.noDefaultWebXmlPath());
        context.addLifecycleListener(tomcat.getDefaultWebXmlListener());
        context.addLifecycleListener(config);
        return context;
    }

    /** A context of our own: its servlets by pattern. The root's name is "". */
    public Context context(String path, Map<String, Servlet> servlets) {
        StandardContext context = (StandardContext) tomcat.addContext(path, docBase());
        context.setSessionCookiePathUsesTrailingSlash(true);
        context.setUseRelativeRedirects(false); // Location is absolute, with the host that the client named
        context.setUseHttpOnly(true);
        StandardManager manager = new StandardManager();
        manager.setPathname(null); // a restart signs everyone out
        StandardSessionIdGenerator generator = new StandardSessionIdGenerator();
        generator.setSessionIdLength(path.isEmpty() ? ROOT_SESSION_BYTES : APPLICATION_SESSION_BYTES);
        manager.setSessionIdGenerator(generator);
        context.setManager(manager);
        servlets.forEach((pattern, servlet) -> {
            Wrapper wrapper = Tomcat.addServlet(context, pattern, servlet);
            wrapper.setLoadOnStartup(-1);
            context.addServletMappingDecoded(pattern, pattern);
        });
        return context;
    }

    private String docBase() {
        File empty = settings.home.resolve("tmp/tomcat/empty").toFile();
        empty.mkdirs();
        return empty.toString();
    }

    public void start() {
        try {
            tomcat.start();
        } catch (LifecycleException e) {
            Log.error("org.wso2.carbon.tomcat.internal.CarbonTomcat", "Error while starting Tomcat", e);
            throw new BootFailure("tomcat", e);
        }
    }

    /** Opens the ports. A keystore that does not open, or has no such key, ends the boot here. */
    public void open() {
        for (boolean tls : new boolean[] {false, true}) {
            Element conf = settings.connector(tls);
            Connector connector = new Connector(conf.getAttribute("protocol"));
            attributes(conf).forEach((name, value) -> {
                if (!name.equals("port") && !name.equals("protocol")) {
                    IntrospectionUtils.setProperty(connector, name, value);
                }
            });
            connector.setPort(settings.port(tls));
            connector.setThrowOnFailure(true);
            try {
                connector.setService(tomcat.getService());
                tomcat.getService().addConnector(connector);
                if (!connector.getState().isAvailable()) {
                    throw new LifecycleException("The connector did not start");
                }
            } catch (LifecycleException | IllegalArgumentException e) {
                failed(connector, e);
            }
        }
    }

    private static void failed(Connector connector, Exception e) {
        Log.error("org.apache.coyote.http11.Http11NioProtocol", "Failed to start end point associated with "
                + "ProtocolHandler [\"" + connector.getScheme() + "-nio-" + connector.getPort() + "\"]", e);
        throw new BootFailure("connector", e);
    }

    public void stop() {
        try {
            tomcat.stop();
            tomcat.destroy();
        } catch (LifecycleException e) {
            Log.error("org.wso2.carbon.tomcat.internal.CarbonTomcat", "Error while stopping Tomcat", e);
        }
    }
}
