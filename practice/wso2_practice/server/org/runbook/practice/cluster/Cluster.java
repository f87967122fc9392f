package org.runbook.practice.cluster;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Consumer;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Literals;
import org.runbook.practice.Log;
import org.runbook.practice.Threads;
import org.runbook.practice.conf.Json;
import org.runbook.practice.conf.Settings;
import org.runbook.practice.conf.Xml;
import org.runbook.practice.users.Users;
import org.w3c.dom.Element;

/**
 * Members that find each other by well-known addresses over TCP (facts 3): one connection per pair, JSON lines.
 * Everything said to the cluster reaches every member of the same domain and group password. Where clustering is off
 * it is a cluster of one.
 */
public final class Cluster {
    private static final String PACKAGE = "org.wso2.carbon.core.clustering.hazelcast.";
    private static final String AGENT = PACKAGE + "HazelcastClusteringAgent";
    private static final String SCHEME = PACKAGE + "wka.WKABasedMembershipScheme";
    private static final int CONNECT_MILLIS = 2000;
    private static final int RETRY_MILLIS = 5000;

    private final Settings settings;
    private final Element conf;
    final boolean enabled;
    private final String id = UUID.randomUUID().toString();
    private volatile long born;
    private final Map<String, Peer> peers = new ConcurrentHashMap<>();
    /** Second connections of two that called each other at once: either may be the other side's first. */
    private final List<Peer> spares = new CopyOnWriteArrayList<>();
    private final Map<String, Consumer<String>> listeners = new ConcurrentHashMap<>();
    private final List<SharedMap> maps = new CopyOnWriteArrayList<>();
    private String host;
    private int port;
    private ServerSocket server;
    private boolean coordinator;
    private volatile boolean closed;

    public Cluster(Settings settings) {
        this.settings = settings;
        conf = Xml.first(settings.axis2, "clustering");
        enabled = conf != null && conf.getAttribute("enable").equals("true");
        if (!enabled) {
            Log.info("org.apache.axis2.deployment.ClusterBuilder", "Clustering has been disabled");
        }
    }

    /** Joins the members of axis2.xml; without clustering does nothing. */
    public void start() {
        if (!enabled) {
            return;
        }
        long start = System.currentTimeMillis();
        String scheme = parameter("membershipScheme", "multicast");
        host = parameter("localMemberHost", "127.0.0.1");
        port = Integer.parseInt(parameter("localMemberPort", "4000"));
        Log.info(AGENT, "Cluster domain: " + domain());
        if (host.startsWith("127.") || host.equals("localhost")) {
            Log.warn(AGENT, "localMemberHost is configured to use the loopback address. Hazelcast Clustering needs ip"
                    + " addresses for localMemberHost and well-known members.");
        }
        Log.info(AGENT, "Using " + scheme + " based membership management scheme");
        if (!scheme.equals("wka") && !scheme.equals("multicast")) {
            IllegalArgumentException unknown = new IllegalArgumentException("Invalid membership scheme '" + scheme
                    + "'. Supported schemes are multicast & wka");
            Log.error("org.wso2.carbon.core.internal.StartupFinalizerServiceComponent", "Cannot initialize cluster", unknown);
            throw new BootFailure("cluster", unknown);
        }
        listen();
        List<Map.Entry<String, Integer>> known = scheme.equals("wka") ? members() : Literals.list();
        known.forEach(member -> connect(member.getKey(), member.getValue()));
        Log.info(AGENT, "Hazelcast initialized in " + (System.currentTimeMillis() - start) + "ms");
        Log.info(AGENT, "Local member: [" + id + "] - " + describe());
        elect();
        Log.info(AGENT, "Cluster initialization completed");
        Threads.start("cluster-rejoin", () -> {
            while (!closed) {
                Thread.sleep(Math.min(RETRY_MILLIS, silenceMillis() / 4));
                known.forEach(member -> connect(member.getKey(), member.getValue()));
                send("alive", "");
                spares.forEach(peer -> peer.tryWrite(Literals.map("topic", "alive", "body", "")));
            }
        });
    }

    private List<Map.Entry<String, Integer>> members() {
        List<Map.Entry<String, Integer>> found = new ArrayList<>();
        for (Element member : Xml.all(conf, "members/member")) {
            String name = Xml.text(member, "hostName", "");
            int at = Integer.parseInt(Xml.text(member, "port", "4000"));
            Log.info(PACKAGE + "util.MemberUtils", "Added member: Host:" + name + ", Remote Host:null, Port: " + at
                    + ", HTTP:-1, HTTPS:-1, Domain: null, Sub-domain:null, Active:true");
            if (!(name.equals(host) && at == port)) {
                found.add(Literals.entry(name, at));
            }
        }
        return found;
    }

    /** Binds the member port or, as Hazelcast does without a word, the next free one. */
    private void listen() {
        for (int offset = 0; server == null; offset++) {
            try {
                server = new ServerSocket(port + offset);
                port += offset;
                born = System.currentTimeMillis(); // who listens first is the oldest, however long its boot took before
            } catch (IOException busy) {
                if (offset == 100) {
                    throw new BootFailure("no free port for the cluster", busy);
                }
            }
        }
        Threads.start("cluster-listen", () -> {
            while (!closed) {
                Socket socket = server.accept();
                Threads.start("cluster-peer", () -> greet(socket, false));
            }
        });
    }

    private void connect(String address, int at) {
        boolean known = peers.values().stream().anyMatch(p -> p.reaches(address, at));
        if (known || closed) {
            return;
        }
        try {
            Socket socket = new Socket();
            socket.connect(new InetSocketAddress(address, at), CONNECT_MILLIS);
            greet(socket, true);
        } catch (IOException absent) {
            // a member that is not up yet: it connects to us when it comes, and we try again
        }
    }

    /** Says who we are, hears who the other is, and keeps the connection if both belong together. */
    private void greet(Socket socket, boolean caller) throws IOException {
        Peer peer = new Peer(socket, silenceMillis());
        if (caller) {
            peer.write(hello());
        }
        Map<String, Object> hello = peer.read();
        if (!caller) {
            peer.write(hello());
        }
        boolean same = domain().equals(hello.get("group"))
                && Users.hash(parameter("groupPassword", ""), domain()).equals(hello.get("password"));
        if (!same || id.equals(hello.get("id"))) {
            peer.close();
            return;
        }
        peer.introduce(hello);
        peers.values().stream().filter(p -> p.reaches(peer.host, peer.port) && !p.id.equals(peer.id)).forEach(Peer::close);
        if (peers.putIfAbsent(peer.id, peer) != null) {
            spares.add(peer);
            Threads.start("cluster-spare", () -> {
                peer.listen(this::received);
                spares.remove(peer);
                peer.close();
            });
            return;
        }
        Json.map(hello.get("state")).forEach((name, entries) -> map(name).load(Json.map(entries)));
        if (peer.age().compareTo(age()) > 0) {
            Log.info(SCHEME, "Member joined [" + peer.id + "]: /" + peer.host + ":" + peer.port);
        }
        Threads.start("cluster-peer", () -> {
            peer.listen(this::received);
            left(peer);
        });
    }

    private Map<String, Object> hello() {
        return Literals.map("group", domain(), "password", Users.hash(parameter("groupPassword", ""), domain()),
                "id", id, "host", host, "port", port, "born", born, "state", state());
    }

    private void left(Peer peer) {
        peers.remove(peer.id, peer);
        peer.close();
        if (!closed) {
            Log.info(SCHEME, "Member left [" + peer.id + "]: /" + peer.host + ":" + peer.port);
            Log.info(SCHEME, "WKA member Host:" + peer.host + ", Port: " + peer.port + " left cluster.");
            elect();
        }
    }

    /** The oldest member is the coordinator; only that one says so. */
    private synchronized void elect() {
        boolean oldest = peers.values().stream().min(Comparator.comparing(Peer::age)).map(p -> p.age().compareTo(age()) > 0)
                .orElse(true);
        if (oldest && !coordinator) {
            Log.info(AGENT, "Elected this member [" + id + "] as the Coordinator node");
        }
        coordinator = oldest;
    }

    private String age() {
        return Peer.age(born, id);
    }

    private void received(Map<String, Object> message) {
        Consumer<String> listener = listeners.get(String.valueOf(message.get("topic")));
        if (listener != null) {
            listener.accept(String.valueOf(message.get("body")));
        }
    }

    public void onMessage(String topic, Consumer<String> listener) {
        listeners.put(topic, listener);
    }

    public void send(String topic, String body) {
        peers.values().forEach(peer -> peer.tryWrite(Literals.map("topic", topic, "body", body)));
    }

    /** A map that every member of the domain has a copy of; the same one for the same name. */
    public synchronized SharedMap map(String name) {
        return maps.stream().filter(m -> m.name.equals(name)).findFirst().orElseGet(() -> {
            SharedMap made = new SharedMap(name, this);
            maps.add(made);
            return made;
        });
    }

    private Map<String, Object> state() {
        Map<String, Object> state = new LinkedHashMap<>();
        maps.forEach(map -> state.put(map.name, map.copy()));
        return state;
    }

    /** The nodes of this domain, this one first. */
    public List<String> memberNames() {
        List<String> names = new ArrayList<>(Literals.list(enabled ? host + ":" + port : Settings.localHost()));
        peers.values().forEach(peer -> names.add(peer.host + ":" + peer.port));
        return names;
    }

    public void stop() {
        closed = true;
        try {
            if (server != null) {
                server.close();
            }
        } catch (IOException ignored) {
            // the process ends anyway
        }
        peers.values().forEach(Peer::close);
        spares.forEach(Peer::close);
    }

    private String domain() {
        return parameter("domain", "wso2.carbon.domain");
    }

    private String describe() {
        String subDomain = Xml.all(conf, "parameter[name=properties]/property[name=subDomain]").stream()
                .map(p -> p.getAttribute("value")).findFirst().orElse("null");
        return "Host:" + host + ", Remote Host:null, Port: " + port + ", HTTP:" + settings.port(false) + ", HTTPS:"
                + settings.port(true) + ", Domain: " + domain() + ", Sub-domain:" + subDomain + ", Active:true";
    }

    private String parameter(String name, String fallback) {
        return Xml.text(conf, "parameter[name=" + name + "]", fallback);
    }

    /** A member that says nothing for this long is dead: 600 s unless hazelcast.properties says less (facts 3.4). */
    private int silenceMillis() {
        return 1000 * Integer.parseInt(settings.properties("hazelcast.properties")
                .getProperty("hazelcast.max.no.heartbeat.seconds", "600"));
    }

    static String address(Socket socket) {
        InetAddress address = socket.getInetAddress();
        return address == null ? "unknown" : address.getHostAddress();
    }
}
