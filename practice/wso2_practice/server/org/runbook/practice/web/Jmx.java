package org.runbook.practice.web;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.rmi.registry.LocateRegistry;
import java.sql.SQLException;
import javax.management.remote.JMXAuthenticator;
import javax.management.remote.JMXConnectorServer;
import javax.management.remote.JMXConnectorServerFactory;
import javax.management.remote.JMXPrincipal;
import javax.management.remote.JMXServiceURL;
import javax.security.auth.Subject;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.users.Users;
import org.w3c.dom.Element;

/** The JMX ports of etc/jmx.xml and carbon.xml, open unless switched off (facts 4). */
public final class Jmx {
    private static final String SOURCE = "org.wso2.carbon.core.init.JMXServerManager";

    private Jmx() {
    }

    public static void start(Settings settings, Users users) {
        if (!settings.has("etc/jmx.xml")) {
            return;
        }
        Element conf = settings.read("etc/jmx.xml");
        if (!Xml.text(conf, "StartRMIServer", "false").equals("true")) {
            return;
        }
        int registry = port(settings, "RMIRegistryPort");
        int server = port(settings, "RMIServerPort");
        String host = Xml.text(conf, "HostName", "localhost");
        String url = "service:jmx:rmi://" + host + ":" + server + "/jndi/rmi://" + host + ":" + registry + "/jmxrmi";
        try {
            LocateRegistry.createRegistry(registry);
            JMXConnectorServer connector = JMXConnectorServerFactory.newJMXConnectorServer(new JMXServiceURL(url),
                    Literals.map(JMXConnectorServer.AUTHENTICATOR, (JMXAuthenticator) given -> subject(users, given)),
                    ManagementFactory.getPlatformMBeanServer());
            connector.start();
            Log.info(SOURCE, "JMX Service URL  : " + url);
        } catch (IOException e) {
            Log.error(SOURCE, "Could not initialize RMI server", e);
        }
    }

    /** As on the real product: users of the user store, administrators only. */
    private static Subject subject(Users users, Object given) {
        try {
            String[] pair = given instanceof String[] ? (String[]) given : new String[0];
            if (pair.length == 2 && users.authenticate(pair[0], pair[1])
                    && users.authorized(pair[0], "/permission/protected")) {
                return new Subject(true, Literals.set(new JMXPrincipal(pair[0])), Literals.set(), Literals.set());
            }
        } catch (SQLException e) {
            Log.error(SOURCE, "Cannot authenticate", e);
        }
        throw new SecurityException("Login failed");
    }

    private static int port(Settings settings, String name) {
        return Integer.parseInt(Xml.text(settings.carbon, "Ports/JMX/" + name, "9999")) + settings.offset;
    }
}
