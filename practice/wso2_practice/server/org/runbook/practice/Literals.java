package org.runbook.practice;

import java.util.AbstractMap;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Lists, sets and maps from their elements, which none can change: Java 8, the product's own Java, has no such factories. */
public final class Literals {
    private Literals() {
    }

    @SafeVarargs
    public static <T> List<T> list(T... items) {
        return Collections.unmodifiableList(Arrays.asList(items));
    }

    @SafeVarargs
    public static <T> Set<T> set(T... items) {
        return Collections.unmodifiableSet(new LinkedHashSet<>(Arrays.asList(items)));
    }

    /** The map of these keys and values, which take turns. */
    @SuppressWarnings("unchecked")
    public static <K, V> Map<K, V> map(Object... keysAndValues) {
        Map<K, V> made = new LinkedHashMap<>();
        for (int at = 0; at < keysAndValues.length; at += 2) {
            made.put((K) keysAndValues[at], (V) keysAndValues[at + 1]);
        }
        return Collections.unmodifiableMap(made);
    }

    public static <K, V> Map.Entry<K, V> entry(K key, V value) {
        return new AbstractMap.SimpleImmutableEntry<>(key, value);
    }
}
