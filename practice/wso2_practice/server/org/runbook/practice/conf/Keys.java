package org.runbook.practice.conf;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import org.runbook.practice.BootFailure;
import org.runbook.practice.Log;

/** The signing key of carbon.xml Security/KeyStore and the certificates of Security/TrustStore. */
public final class Keys {
    private static final String SOURCE = "org.wso2.carbon.core.util.KeyStoreManager";
    public final PrivateKey key;
    public final X509Certificate certificate;
    private final KeyStore trusted;

    public Keys(Settings settings) {
        Settings.Store store = settings.keyStore;
        try {
            KeyStore keys = load(store);
            key = (PrivateKey) keys.getKey(store.alias(), store.keyPassword().toCharArray());
            certificate = (X509Certificate) keys.getCertificate(store.alias());
            trusted = load(settings.trustStore);
            if (key == null) {
                throw new GeneralSecurityException("no key under the alias '" + store.alias() + "'");
            }
        } catch (IOException | GeneralSecurityException e) {
            Log.error(SOURCE, "Error loading the key store from the given location: " + store.location(), e);
            throw new BootFailure("key store", e);
        }
        if (store.location().endsWith("wso2carbon.jks") && certificate.getSubjectX500Principal().getName()
                .contains("CN=localhost")) {
            Log.warn("org.wso2.carbon.core.bootup.validator.util.ValidationResultPrinter",
                    "Carbon is configured to use the default keystore (wso2carbon.jks). To maximize security when"
                    + " deploying to a production environment, configure a new keystore with a unique password.");
        }
    }

    private static KeyStore load(Settings.Store store) throws IOException, GeneralSecurityException {
        try (InputStream in = Files.newInputStream(store.location())) {
            KeyStore loaded = KeyStore.getInstance(store.type());
            loaded.load(in, store.password().toCharArray());
            return loaded;
        }
    }

    /** The certificate that an application trusts under an alias, or null. */
    public X509Certificate trusted(String alias) throws GeneralSecurityException {
        return (X509Certificate) trusted.getCertificate(alias);
    }
}
